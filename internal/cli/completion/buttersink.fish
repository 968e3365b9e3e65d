# fish completion for buttersink                           -*- shell-script -*-

function __buttersink_complete
    set -l typed (commandline -opc)
    set -l raw (commandline -ct)
    # Quotes may be open still.
    set -l cur (string unescape -- $raw; or string unescape -- $raw\"; or string unescape -- $raw\'; or printf '%s' $raw)
    set -l program $typed[1]
    set -l before
    for word in $typed[2..-1]
        set -a before (string replace -r '^~/' "$HOME/" -- $word)
    end
    set -l lines ($program __complete $before "$cur" 2>/dev/null)
    set -l directive (string match -r '^:([0-9]+)$' -- $lines[-1])[2]
    test -n "$directive"; or return
    set -e lines[-1]

    # The value of --flag=VALUE is answered without the flag.
    set -l flag (string match -r '^-[^=]*=' -- "$cur")
    set -l value (string replace -r '^-[^=]*=' '' -- "$cur")
    if test (math "bitand($directive, 16)") -ne 0
        set lines (__fish_complete_directories "$value")
    else if test (math "bitand($directive, 4)") -eq 0
        set lines (__fish_complete_path "$value")
    end
    for line in $lines
        set -l parts (string split -m 1 \t -- $line)
        set -q parts[2]; and set parts[2] \t(string replace -a '`' '' -- $parts[2])
        printf '%s%s%s\n' "$flag" $parts[1] "$parts[2]"
    end
end

complete -c buttersink -e
complete -c buttersink -k -f -a '(__buttersink_complete)'

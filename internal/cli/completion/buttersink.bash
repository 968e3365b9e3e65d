# bash completion for buttersink                           -*- shell-script -*-
#
# It reads the line itself: bash cuts words at ":", "=" and "@", which places
# have in them, and hands over quotes and backslashes as they were typed.

_buttersink() {
	COMPREPLY=()
	local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT}
	local -a words=()
	# What has been read of a word; the quotes that are open; where in the word bash
	# believes that it begins, now and before the quotes.
	local word='' any='' quote='' start=0 before=0 tilde='' c i
	for ((i = 0; i < ${#line}; i++)); do
		c=${line:i:1}
		if [[ $quote == "'" || $quote == '"' ]]; then
			if [[ $c == "$quote" ]]; then
				quote='' start=$before
			elif [[ $quote == '"' && $c == '\' && ${line:i+1:1} == ['"$`\'] ]]; then
				((++i))
				word+=${line:i:1}
			else
				word+=$c
			fi
			continue
		fi
		case $c in
		[[:space:]])
			if [[ $any ]]; then
				[[ $tilde && $word == '~/'* ]] && word=$HOME${word:1}
				words+=("$word")
			fi
			word='' any='' start=0 before=0 tilde=''
			;;
		"'" | '"')
			quote=$c any=1 before=$start start=${#word}
			;;
		'\')
			((++i))
			word+=${line:i:1} any=1
			;;
		*)
			[[ $c == '~' && ! $any ]] && tilde=1
			[[ $c == '@' && $COMP_WORDBREAKS == *@* ]] && start=${#word} # which stays
			word+=$c any=1
			[[ $c != '@' && $COMP_WORDBREAKS == *"$c"* ]] && start=${#word}
			;;
		esac
	done
	((${#words[@]})) || return

	local out directive
	out=$("${words[0]}" __completeNoDesc "${words[@]:1}" "$word" 2>/dev/null) || return
	directive=${out##*:}
	out=${out%:*}

	# The value of --flag=VALUE is answered without the flag.
	local value=$word flag=''
	if [[ $word == -*=* ]]; then
		flag=${word%%=*}= value=${word#*=}
	fi

	local -a found=()
	if ((directive & 16)); then
		mapfile -t found < <(compgen -d -- "$value")
	elif ((!(directive & 4))); then
		mapfile -t found < <(compgen -f -- "$value")
	fi
	if ((${#found[@]})); then
		compopt -o filenames # bash writes file names in its own way
		for c in "${found[@]}"; do
			c=$flag$c
			COMPREPLY+=("${c:start}")
		done
		return
	fi

	while IFS= read -r c; do
		[[ $c && $c == "$value"* ]] && found+=("$flag$c")
	done <<<"$out"
	((directive & 32)) && compopt -o nosort
	((${#found[@]} == 1)) && [[ ${found[0]} == *[/:=,] ]] && compopt -o nospace
	for c in "${found[@]}"; do
		c=${c:start}
		case $quote in
		"'") c=${c//\'/\'\\\'\'} ;;
		'"')
			c=${c//\\/\\\\} c=${c//\"/\\\"} c=${c//\$/\\\$} c=${c//\`/\\\`}
			;;
		*)
			if [[ $tilde && $start == 0 && $c == '~/'* ]]; then
				printf -v c '~/%q' "${c:2}"
				c=${c%"''"}
			elif [[ $c ]]; then
				printf -v c '%q' "$c"
			fi
			;;
		esac
		COMPREPLY+=("$c")
	done
}

complete -F _buttersink buttersink

// Package dial runs commands on other machines with the system's ssh. It knows
// how words are quoted for a remote shell, when sudo is put before them, whose
// keys are offered, and what it means when ssh or the command fails. It does not
// know what the commands say to each other.
package dial

// Command bench times the program against what else one would run.
package main

func main() {}

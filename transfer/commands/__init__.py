"""The commands of `transfer`: each is a function of the options that returns the exit status."""

"""The commands of `compsketch`, a module each; `cli.py` puts them together."""

"""What a collection of so many photos needs: bytes, memory, nodes, hours, money (`compsketch plan`).

`parameters` are what is given, `figures` what was measured, and `sizing` computes from both; every quantity says which
of them it is made of. Nothing is imported here: the command line reads the parameters each time it starts.
"""

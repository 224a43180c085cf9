"""A fixed set of queries whose exact answers are known, asked again and again: does search still find what is there?

questions  the queries and their answers, and the file that keeps them
prepare    draws the queries, and finds their exact answers by comparing each with every stored vector
scoring    what counts as found and as missed in a collection that goes on changing
asking     asks them once, as people search: through the index, ranked again by default
metrics    what Prometheus is told of it
"""

"""Inside the simulated mice: who their neurons are, how the animal behaves, which trials it sees.

`simulated` puts these together. In go settings and random generators derived from a seed and from
what they are for; out come arrays that do not depend on the order in which they are made.
"""

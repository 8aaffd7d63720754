"""Statistics of more numbers than memory holds, in one pass over them or, for medians, in two.

Numbers are shown in pieces: `running` has the sums of pieces (mean, spread, extent, gray levels),
`median` the search for the exact median of each column.
"""

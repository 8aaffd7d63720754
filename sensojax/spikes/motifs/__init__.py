"""Motifs: which patterns of counts occur in small patches of neurons and time, and how often.

A patch is cut from the matrix of counts (`patches`), told by a packed key, counted over any number
of sessions (`counting`, with sorted runs on disk, `runs`), and listed by frequency (`table`,
`figure`).
"""

"""Order: neurons that fire together stand next to each other, in one order for a whole session.

`similarity` compares neurons over all bins of a session, `leaves` puts the leaves of a tree in the
best order, `ordering` does both for a session, `stored` keeps the order and applies it.
"""

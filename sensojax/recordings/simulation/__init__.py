"""Inside the simulated mice: who their neurons are, how the animal behaves, which trials it sees.

In go `settings` and random generators derived from their seed and from what they are for; out come
the files of a session. In order: `schedule` (tiers, clips), `behavior`, `anatomy` (the neurons),
`neurons` (what they respond), `statistics`, `session`, `image_session` and `colliculus_session`
(all of it as files).
"""

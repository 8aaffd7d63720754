"""What tools find out about the videos that mice were shown, kept in files and beside stores.

`shown` reads the videos of recordings and stores alike; `video_ids` says which are the same and
`stimulus_ids` of what kind each is; `stimulus_features` measures what some kinds show in each
frame. The scripts ask for it.
"""

"""Stimuli by themselves: identify, measure and synthesise the videos that mice are shown.

`synthesis` makes the kinds of video of the Sensorium 2023 competition from a random generator;
`textures` holds the noise and the sampling that it is made of; `features` measures Gabors, dots and
flashed images; `identity` says which videos are the same, `hashing` which look alike, `kinds` of
what kind each is. Videos are [time height width].
"""

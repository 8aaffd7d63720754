"""What each row of the benchmark is, in the words of its page: how both sides do the work.

MEANING has a paragraph for each name of `scripts/bench.py --rows`, so the page explains itself.
"""

MEANING = dict(
    core="""The core of a model on one mouse's batch, and the recurrence or cortex behind it, from
normalised clips to features: forward in evaluation mode, and forward and backward in training mode
from the mean of the squared features to the gradient of all parameters (nothing is dropped on our
side). Weights and clips are those of the row `step`.""",
    readout="""The readout of one mouse on the core's features of its batch, without the last
nonlinearity: every neuron read at its mean, and sampled anew for every frame and neuron, backward
to the gradients of its parameters and of the features. Its GB/s count the feature vectors that it
has to look up.""",
    step="""One training step of the published factorised baseline (core 32, 64, 128 channels,
kernels 11, 5, 5 in space and in time; full Gaussian readout with cortex position network, sampled
for every frame and neuron; shifter; Poisson loss with the published scale; AdamW) on 80-frame clips
of 36 x 64 pixels and 7,863 neurons per mouse, 8 clips of each where a row says nothing else. Ours
takes all mice in one step and includes normalising the raw bytes; the published code takes one
mouse after the other, adds up gradients, and starts from normalised arrays. Neither reads files
here. The GRU rows have the published GRU baseline instead: a rotation-equivariant core (4 layers of
8 features in 8 orientations, kernels 9, 7, 7, 7) and a convolutional GRU of 64 channels with
kernels of 9. The rows of images have the published CNN of 2022 (four layers of 64 channels, kernels
9, 7, 7, 7, all but the first depth-separable; full Gaussian readout; Adam) on 128 images, which
ours makes smaller, 144 x 256 to 36 x 64 pixels, in its step and the published code has small
already. The rows of DwiseNeuro have its published model of 2023 (expansion 7, dropping residuals
and channels; softplus; AdamW) on clips of 31 frames, of which it sees 16, in 64 x 64 pixels. Those
of ViV1T have the causal model of 2025 with 2 of its 14 blocks in space and 2 of its 14 in time, all
else as published (what it leaves out at random, clipping at a percentile of past gradients,
schedule-free AdamW) on one whole trial; empty modules stand in for what its package imports beside
the model, and a function of three lines for torchvision's that leaves out rows.""",
    prediction="""The same model in evaluation mode, its published prediction function on the other
side: the 80-frame batch, and two whole 300-frame trials of each mouse (one at a time on the
published side, whose loader gives whole trials so). Frames are those of the input. DwiseNeuro
predicts the first 46 frames of a trial in all 16 windows of 31 frames that these have, one after
the other as its own code does, since that is fastest on a CPU. A trial of 300 frames has 270. In
the row of windows every 8 frames ours takes two of eight of them, and those that end the trial; the
other side has all. ViV1T predicts two whole trials, its own code one after the other.""",
    loader="""Random 80-frame windows of the train tier, normalised (official) and ready as float32
arrays with behaviour as channels, files in the page cache. Ours: `Batches.iterate` with its threads
from the store, then normalisation in jit. The published loader reads and normalises whole trials;
once with its cache off, which is how ten mice have to be read (148 GB), and once with every trial
already in its cache. From the disk: each
side reads every trial of the tier once, after the system was told to drop their files from its page
cache.""",
    transfer="""A raw batch of one mouse (video in bytes) from arrays on the host to the device, as
training hands it over, beside copying the same arrays on the host. A CPU's device is the host, and
takes arrays that lie well in memory without copying them.""",
    epoch="""All that happens between two evaluations of a run: windows drawn and read from the
store on disk (in the page cache), brought to the device, normalised, training steps taken and the
journal written. The published side reads with its own loader, its cache off, as ten mice have to be
read, and takes a step for each batch.""",
    correlation="""Single-trial correlation of every neuron over a tier that is in memory:
ours adds up sums trial by trial; numpy and the published function join all trials first.""",
    store="""Bytes of the published files for each byte of our store, on a simulated session: once
with small random numbers in place of the responses' exact zeros, which no packing makes smaller,
and once as simulated, mostly zeros. Recordings should lie between the two. All other rows read the
first one.""",
    conversion="""Published files to store, in megabytes of source per second, beside copying the
same files with `shutil.copytree` on the same disk, files in the page cache; and from
the disk to the disk, where the system was told to drop the source from its page cache, and both
sides end when what they wrote has reached the disk.""",
    gabors="""Direction, wavelength and frequency of the Gabor in every block of 25 frames, 72
possible ones; clips in memory. The other side is plain numpy by the rule of the published tool: one
correlation coefficient for every block and template, templates made beforehand.""",
    video_ids="""From the files of a session (in the page cache) to a number for each different
video. The other side compares whole videos in turn by the published rule, in plain numpy; its work
grows with the square of the trials, and a published session has ten times as many.""",
    statistics="""Minimum, maximum, median, mean and standard deviation of video, responses,
behaviour and pupil over the train tier, from the published files in the page cache. The other side
holds all trials of a variable in one float32 array and asks numpy.""",
    motifs="""All motifs of a synthetic session with the count statistics of the published pile, to
the finished table on disk, per CPU second of one process with one thread: from counts in memory
(sparse here, the published table of counts in Arrow there), and from disk (an event store, whose
spike times are put into bins on the way; the table in Parquet there). The other side is plain
numpy and a dictionary of patches, by the rule of the published script; it counts the first four of
twenty chunks, which is where its rate is highest. Peak memory is that of a process that does only
this.""",
    order="""An order of the neurons of a session by cosine distance, from counts in memory, per CPU
second of one process with one thread: ours once from all bins (average linkage, exact leaf
ordering), the other side anew for each chunk with SciPy (Ward's linkage, its leaf ordering),
as the published script means to.""",
    pile="""A synthetic session with the count statistics of the published pile, in one process and
with everything in the page cache: from the spike times of an NWB file to what lies on disk (an
event store with every exact time, compressed and with checksums; there an uncompressed Arrow table
of counts), and from a store to counts in bytes, chunk by chunk (there NumPy's histogram over all
edges for each neuron, of times in memory, as the published builders count).""",
)

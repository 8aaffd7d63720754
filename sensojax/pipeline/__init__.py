"""From stores to batches: which frames make a sample, and which of them count (`windows`), what is
done to the numbers inside the jitted step (`transforms`), and in which order samples come, how they
are read ahead and brought to the device (`batches`)."""

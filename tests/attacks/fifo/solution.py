"""Is a pipe that nobody writes into."""

# Never read: a pipe stands here.

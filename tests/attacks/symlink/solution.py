"""Is a link to the reference."""

# Never read: a link stands here.

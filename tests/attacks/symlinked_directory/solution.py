"""Is a package whose directory is a link."""

# Never read: a link stands here.

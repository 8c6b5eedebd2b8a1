"""Reference pictures: encoded bytes in, checked RGB out."""

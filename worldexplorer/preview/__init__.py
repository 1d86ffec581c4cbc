"""The preview engine: a synthesised world from one photo on two CPU cores, without weights."""

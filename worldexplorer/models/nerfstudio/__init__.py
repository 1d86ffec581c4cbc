"""The `nerfstudio` trainer: splatfacto-big in a process and, if wanted, an environment of its own."""

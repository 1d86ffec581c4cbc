"""The container images: what is in them, and the program that builds, checks, pushes and pins them.

python -m images.build --help
python -m images.lock --help
"""

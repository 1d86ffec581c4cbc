"""Stage 2: frames along trajectories out of the eight views, and a point cloud of them; models come from an engine."""

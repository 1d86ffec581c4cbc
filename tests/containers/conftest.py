from containers.engine import cpu_image, docker_engine

__all__ = ["cpu_image", "docker_engine"]

"""Short tests here write to a disk of memory."""

from memory_disk import tmp_path

__all__ = ["tmp_path"]

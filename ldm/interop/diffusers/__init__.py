"""Folders of Hugging Face diffusers, in and out. diffusers itself is not imported: JSON and safetensors are all it takes."""

from ldm.interop.diffusers.reading import DiffusersModel, is_autoencoder, is_folder, read_first_stage, read_folder
from ldm.interop.diffusers.writing import write_folder

__all__ = ["DiffusersModel", "is_autoencoder", "is_folder", "read_first_stage", "read_folder", "write_folder"]

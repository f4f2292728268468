"""The paper's claims held against models that are trained here, in small."""

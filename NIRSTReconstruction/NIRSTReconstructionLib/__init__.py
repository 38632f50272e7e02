"""MRI-guided near-infrared spectral tomography: diffusion model, inversion, chromophore images."""

"""Radiomic features after the Image Biomarker Standardisation Initiative."""

"""Fits on more machines: those of a Dask scheduler, which ``--engine`` names, and of a SLURM cluster.

``python -m common.engines slurm --workers 8 --gpus 1 --time 4:00:00 -- python step_5/train.py`` starts workers, runs a
script with them, and ends them.
"""

"""What is to be known of one GPU, in stages by worth: ``python -m benchmarks.gpu -o FOLDER``.

Every result is a line of ``FOLDER/gpu.jsonl`` as soon as it is known; what is there already is passed over, so a second
quarter of an hour resumes where the first ended. ``docs/gpu.md`` says what was measured, and what a machine needs.
"""

"""The course: chapters, what they claim, and how they are run."""

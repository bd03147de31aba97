"""Reading and converting published weights (``pretrained_teachers.py``)."""

"""One stock recognizer, taken apart: specification, build, view, tap."""

"""Access to stock recognizers: model spec, building, view and tap."""

_base_ = './default_runtime.py'

# Beside every checkpoint that is kept: the stock student.
custom_hooks = [dict(type='StudentExportHook')]

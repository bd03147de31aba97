_base_ = 'mmaction::_base_/default_runtime.py'

# Mends the released stack and registers the plugin. A config that sets
# custom_imports itself must repeat it: lists are replaced, not merged.
custom_imports = dict(imports=['dtkd_mmaction'], allow_failed_imports=False)

default_hooks = dict(
    checkpoint=dict(type='AtomicCheckpointHook', max_keep_ckpts=3)
)

# Before the first step: the memory layout in which the model trains fastest.
custom_hooks = [dict(type='FastStudentHook')]

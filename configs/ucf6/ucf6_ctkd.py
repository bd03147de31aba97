# CTKD from the ViT teacher.
_base_ = ['_base_/from_vit.py', '../_base_/losses/ctkd.py']

model = dict(losses={{_base_.losses}})

# CC from the ViT teacher.
_base_ = ['_base_/from_vit.py', '../_base_/losses/cc.py']

model = dict(losses={{_base_.losses}})

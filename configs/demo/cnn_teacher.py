_base_ = ['./_base_/demo_teacher.py', './_base_/demo_cnn.py']

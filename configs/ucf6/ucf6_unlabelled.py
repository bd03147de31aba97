# The 133 labelled clips of ucf6_pretrained_resnet3d.py and the 396 others of
# the list without their labels, in as many steps.
#     python tools/data/subset_list.py data/ucf6/ucf6_train_split1.txt \
#         data/ucf6/ucf6_train_133_of_529.txt --every 4 --unlabelled
_base_ = './ucf6_pretrained_resnet3d.py'

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            ann_file='data/ucf6/ucf6_train_133_of_529.txt', indices=None
        )
    )
)
train_cfg = dict(max_epochs=20, val_interval=20, stretch_schedule=True)

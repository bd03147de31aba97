"""Makes a project from a folder of videos: lists, configs and commands.

    python tools/new_project.py VIDEOS --out PROJECT
    python tools/reproduce.py --tables PROJECT/tables.yml

VIDEOS is a folder with one folder of videos per class, with or without
train/, val/ and test/ above them, or a CSV file with the columns path, label
and, if you like, split. Every clip is opened once. All problems are listed at
once, and nothing is written until they are solved. PROJECT/README.md says what
comes next and how long it takes on this machine.
"""

if __name__ == '__main__':
    # Here, because the processes that open clips import this file again.
    from projects.command import main

    main(__doc__)

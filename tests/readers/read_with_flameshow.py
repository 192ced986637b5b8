"""Reads profiles with flameshow, and prints what it holds: the sum of each column, which one it shows, and each name.

Arguments: files.
"""

import sys

from flameshow.main import parse

for file in sys.argv[1:]:
    with open(file, "rb") as stored:
        profile = parse(stored.read(), file)
    print("file", file)
    frames = profile.id_store.values()
    # One of each name: what is shown of them takes long.
    shown = {frame.name: frame for frame in frames}
    for column, values in enumerate(profile.sample_types):
        print("total", profile.root_stack.values[column], values.sample_type)
        for frame in shown.values():
            # What it shows of a frame.
            frame.render_one_frame_detail(frame, column, values.sample_unit)
    print("default", profile.default_sample_type_index)
    for name, frame in shown.items():
        if frame is not profile.root_stack:
            print("name", name)

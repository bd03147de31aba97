"""Repairs of reading videos."""

import os.path as osp

from ._patching import wrap


def decord_reads_by_path() -> None:
    """Opens a local clip by its path, and names it in errors.

    ``DecordInit`` hands decord the bytes of the file. On some truncated AVIs
    decord 0.6.0 then crashes the process; opened by path, they raise an error.
    The error "Error reading 4993 bytes..." does not name the file.
    """
    from mmaction.datasets.transforms import DecordInit

    def make(upstream):
        def get_video_reader(self, filename):
            if self.io_backend not in ('disk', 'local'):
                return upstream(self, filename)
            import decord

            if not osp.splitext(filename)[1]:
                filename += '.mp4'  # as upstream
            try:
                return decord.VideoReader(
                    filename, num_threads=self.num_threads
                )
            except (RuntimeError, decord.DECORDError) as error:
                raise RuntimeError(
                    f'decord cannot open {filename}: {error}'
                ) from error

        return get_video_reader

    wrap(DecordInit, '_get_video_reader', make)

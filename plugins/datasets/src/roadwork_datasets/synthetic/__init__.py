"""Procedural street scenes with and without roadworks: `plan` the frames, `render` them one by one."""

from roadwork_datasets.synthetic.frame import DAYTIMES, ENVIRONMENTS, WEATHERS, Frame, plan
from roadwork_datasets.synthetic.render import render

__all__ = ["DAYTIMES", "ENVIRONMENTS", "WEATHERS", "Frame", "plan", "render"]

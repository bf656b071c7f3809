"""What the command line says about itself at some length."""

from __future__ import annotations

EPILOG = """\
first steps:
  pixelwise demo                              train three small models and write a report (about 5 minutes)
  pixelwise list                              the recipes on offer
  pixelwise check camvid data.root=FOLDER     look at your data and its labels before anything is trained
  pixelwise train camvid data.root=FOLDER     train a recipe on your own folder
  pixelwise train runs/camvid-1               resume a run that was stopped
  pixelwise evaluate runs/camvid-1            measure it beside trivial baselines
  pixelwise predict runs/camvid-1 photo.jpg   use it
  pixelwise generate runs/faces-1 pictures    pictures from noise, where that is what was learned
  pixelwise compare predictions originals     PSNR, SSIM and more of pictures against those of the same names
  pixelwise import latest_net_G.pth facades   a generator of pytorch-CycleGAN-and-pix2pix as a model
  pixelwise export runs/camvid-1 camvid.onnx  one file that runs without pixelwise
  pixelwise analyse unet size=512x512         what a network costs, sees and takes in memory
  pixelwise lab                               experiments that measure what is said about such networks
"""

LABORATORY = """\
  pixelwise lab NAME              run one: minutes on two cores; writes lab/NAME.html, lab/NAME.json and lab/index.html
  pixelwise lab all               run every one
  pixelwise describe NAME         its settings"""

NETWORKS = """\
  timm/NAME, torchvision/NAME     a model of these libraries; without the library where only one has it, or timm's
  module:function                 what a function of your own returns
  runs/camvid-1                   a trained network
Our own have settings: pixelwise analyse unet size=512x512 batch=8 width=64 upsample=nearest --train"""

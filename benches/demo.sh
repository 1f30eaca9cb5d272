#!/bin/sh
# The main job on simulated nights, in minutes: simulate, preprocess, train, evaluate, report.
# usage: demo.sh SLEEPTOOLS FOLDER
set -eu
sleeptools=$1
case $sleeptools in */*) sleeptools=$(cd "$(dirname "$sleeptools")" && pwd)/$(basename "$sleeptools") ;; esac
mkdir -p "$2"
cd "$2"
"$sleeptools" simulate sleep-edf raw --subjects 6 --hours 3 --seed 1
"$sleeptools" convert sleep-edf raw recordings
"$sleeptools" preprocess sleep-edf recordings epochs
"$sleeptools" train epochs runs/mmasleepnet --folds 3 --passes 3 \
  --set recipe.learning_rate=0.001 --set recipe.batch=32
"$sleeptools" evaluate runs/mmasleepnet
"$sleeptools" report runs/mmasleepnet --out report.html
echo "report: $(pwd)/report.html"

#!/bin/sh
# Prints the services that the labels of a merge request name, as a list in JSON: ["deploy:api","bug"] gives ["api"].
# A label that names no service of ours is a mistake worth stopping for.
set -eu
services="api web worker"

chosen=""
for label in $(printf %s "${LABELS:-[]}" | tr -d '[]" ' | tr , '\n'); do
  case $label in
  deploy:*) service=${label#deploy:} ;;
  *) continue ;;
  esac
  case " $services " in
  *" $service "*) chosen="$chosen${chosen:+,}\"$service\"" ;;
  *)
    echo "there is no service $service; the labels are deploy: and one of $services" >&2
    exit 1
    ;;
  esac
done
printf '[%s]\n' "$chosen"

"""EMANet on one GPU, in order of worth: ``python -m benchmarks.gpu --minutes 60``.

1. ``tests``: ``make test-gpu``, and how each of its tests ended.
2. ``kernels``: EM alone and the whole unit, forward and backward, beside plain transcriptions of
   the released code's and mmsegmentation's, the fused kernel of ``benchmarks.fused`` and non-local
   attention; and what the card itself can do.
3. ``waits``: how often a training step waits for the GPU.
4. ``throughput``: training EMANet on random images at the paper's size, beside a plain loop.
5. ``evidence``: the recipe ``animals`` at 3,000 and 10,000 iterations, as records.

Every result is in ``benchmarks/results`` as soon as it is there, one JSON file a stage, with the
machine and the versions that it was made on; a further call makes what is missing. Runs of
``evidence`` write checkpoints and go on from them. ``--stages kernels,throughput`` chooses,
``--tiny`` runs everything at tiny sizes on a CPU, where the numbers mean nothing.

``evidence`` reads photographs and weights: ``--data-root FOLDER --weights-path FILE``. To a machine
that is sent the checkout alone they travel inside of it, in a folder ``carried`` that git ignores::

    mkdir carried && cp -r VOC2012 mobilenet_v2.pth carried/
    python -m benchmarks.gpu --data-root carried/VOC2012 --weights-path carried/mobilenet_v2.pth

Where the copy has no ``.git``, EMASTUDY_COMMIT says which commit it is of. The stages before need
neither; without submitit (the extra ``slurm``) all but ``evidence`` runs.
"""

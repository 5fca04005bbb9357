/* nifti_impl.h - what nifti.c and nifti_header.c share. */
#ifndef NIFTI_IMPL_H
#define NIFTI_IMPL_H

/* "PATH: what" into a buffer of NII_WHY bytes; returns -1. */
int nii_fail(char *why, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The double whose shortest text is the float's: 0.9 and not 0.89999997615814209. */
double nii_tidy(float);

#endif

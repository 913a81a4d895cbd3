/* `pyoco-host --exec-child SIGNAL PARENT PROGRAM [ARGUMENTS...]`: becomes PROGRAM, tied to the life of PARENT. */
#ifndef PH_CHILD_H
#define PH_CHILD_H

/* Asks the kernel for SIGNAL (a number) when the process PARENT (its id) dies, gives signals back their defaults and
 * executes PROGRAM, looked up in PATH and /usr/sbin. argv begins at SIGNAL. Returns an exit code only when that failed: 126 or 127 as
 * shells do, 1 when PARENT is already gone. */
int ph_exec_child(int argc, char **argv);

#endif

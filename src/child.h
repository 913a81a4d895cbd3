/* `pyoco-host --exec-child [--lock FILE] SIGNAL PARENT PROGRAM [ARGUMENTS...]`: becomes PROGRAM, tied to the life of
 * PARENT. */
#ifndef PH_CHILD_H
#define PH_CHILD_H

#define PH_CHILD_LOCKED 75 /* exit code: another process holds the lock (EX_TEMPFAIL of sysexits.h) */

/* Asks the kernel for SIGNAL (a number) when the process PARENT (its id) dies, takes FILE's lock, which PROGRAM then holds
 * until its end, gives signals back their defaults and executes PROGRAM, looked up in PATH and /usr/sbin. argv begins
 * behind --exec-child. Returns an exit code only when that failed: 126 or 127 as shells do, PH_CHILD_LOCKED, 1 when
 * PARENT is already gone or FILE cannot be opened. */
int ph_exec_child(int argc, char **argv);

#endif

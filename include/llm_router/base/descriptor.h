#ifndef LLM_ROUTER_BASE_DESCRIPTOR_H
#define LLM_ROUTER_BASE_DESCRIPTOR_H

/* The terminal or pipe behind `fd` as an open file of our own: the mode of
 * `fd` belongs to all who share it, and for them it must go on to block. The
 * new one never blocks and is not inherited; `access` is O_RDONLY or O_WRONLY.
 * The caller closes it. -1: it cannot be had (a socket never). */
int descriptor_open_again(int fd, int access);

#endif

"""Training, a module a stage: objects (f_s, f_i), spatial (f_t, T_I), projection; losses.py holds eq. 5 to 7."""
